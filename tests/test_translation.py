"""Translation: which sentences are paired, how they are coded and split, and what is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_data import SMALL, WORDS, help_page, help_pages, help_sentence, write_help
from test_engine import final_losses, plain_loop, spec
from torch import Tensor, nn
from torch.nn import functional as F

import mtofront.sweep.evaluate as evaluate
import mtofront.sweep.lowering as lowering
from mtofront.problems import PROBLEMS, Problem, ProblemError, with_label_options
from mtofront.problems.help_pages import aligned
from mtofront.problems.transformer import Sizes, Translator
from mtofront.sweep.evaluate import Measurement
from mtofront.sweep.examine import examine
from mtofront.sweep.train import train_pack

pytestmark = pytest.mark.usefixtures("small_data")
SMALL_NET = {"layers": 1, "width": 8, "heads": 2}


def pairs(folder: Path, **pages: dict[str, str]) -> list[tuple[str, ...]]:
    """English and other sentences that are found on pages of these paragraphs, tokens by space."""
    for language, paragraphs in pages.items():
        write_help(folder / language, {"a.html": help_page(paragraphs)})
    files = [folder / language / "pages.zip" for language in pages]
    rows = aligned(files, list(pages)[1:])
    return [tuple(" ".join(text) for text in (row.source, *row.targets)) for row in rows]


def test_paragraphs_are_matched_by_id_and_split_into_sentences(tmp_path: Path) -> None:
    found = pairs(
        tmp_path,
        en={"p1": "Open it. Then close the file.", "p2": "A second one"},
        fr={"p2": "Le deuxième", "p1": "Ouvrez-le. Fermez l'autre."},
        zh={"p1": "打开它。 关闭 PDF 文件。", "p2": "第二"},
    )
    assert found == [
        ("open it .", "ouvrez - le .", "打 开 它 。"),
        ("then close the file .", "fermez l ' autre .", "关 闭 pdf 文 件 。"),
        ("a second one", "le deuxième", "第 二"),
    ]


def test_markup_entities_and_other_systems_are_left_out(tmp_path: Path) -> None:
    keys = (
        '<span id="s" class="switchinline"><span hidden="true" id="MACx" class="MAC">Command</span>'
        '<span hidden="true" id="defaultx">Ctrl</span></span>'
    )
    found = pairs(
        tmp_path,
        en={"p": f"Press <a name='x'></a>{keys} &amp;\n <b>wait</b>"},
        fr={"p": f"Tapez {keys}"},
    )
    assert found == [("press ctrl & wait", "tapez ctrl")]


@pytest.mark.parametrize(
    ("english", "french", "reason"),
    [
        ("Not translated", "Not translated", "the same"),
        ("One. Two.", "Un, deux.", "another number of sentences"),
        ("One. Two.", "", "nothing there"),
        ("1 + 2", "1 - 2", "seen before, without marks"),
        ("...", "…", "no word"),
    ],
)
def test_what_does_not_correspond_is_left_out(
    english: str, french: str, reason: str, tmp_path: Path
) -> None:
    first = {"p0": "1, 2"}, {"p0": "1; 2"}
    found = pairs(tmp_path, en={**first[0], "p": english}, fr={**first[1], "p": french})
    assert found == [("1 , 2", "1 ; 2")], reason


def test_a_paragraph_that_comes_twice_is_matched_by_occurrence(tmp_path: Path) -> None:
    for language, words in (("en", ("First", "Second")), ("fr", ("Premier", "Deuxième"))):
        page = "".join(f'<p id="same">{word}</p>' for word in words)
        write_help(tmp_path / language, {"a.html": page})
    rows = aligned([tmp_path / name / "pages.zip" for name in ("en", "fr")], ["fr"])
    assert [(row.source, row.targets) for row in rows] == [
        (("first",), (("premier",),)),
        (("second",), (("deuxième",),)),
    ]


@pytest.fixture
def make(small_data: Path) -> Callable[..., Problem]:
    """Makes the problem on the written pages, all of their rows, with a small network."""
    return lambda **options: PROBLEMS["translation"](**{"longest": 12, **SMALL_NET, **options})


def texts(problem: Problem, folder: Path, split: str) -> list[tuple[str, ...]]:
    """The sentences of a split in words: English, then each target."""
    (kept,) = (folder / "prepared").glob("translation-*.npz")
    with np.load(kept) as arrays:
        tables = [arrays[f"{task}_words"] for task in ("en", *(t.name for t in problem.tasks))]
    data = problem.splits()[split]
    marks = ["", "<unknown>", "<start>", "<end>"]
    columns = [
        [" ".join([*marks, *table][code] for code in row if code > 0) for row in codes.tolist()]
        for table, codes in zip(tables, (data.inputs[:, :12], *data.targets), strict=True)
    ]
    return list(zip(*columns, strict=True))


def copied(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with the same pages in which nothing was prepared."""
    for name in ("en", "fr", "zh"):
        shutil.copytree(folder / f"libreoffice_help_{name}", target / f"libreoffice_help_{name}")
    monkeypatch.setenv("MTOFRONT_DATA", str(target))
    return target


def digits(text: str) -> int:
    return int("".join(word for word in text.split() if word.isdigit()))


def test_every_row_is_one_sentence_in_all_languages_and_pages_are_in_one_split(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Problem]
) -> None:
    folder = copied(small_data, tmp_path, monkeypatch)
    problem = make()
    owner: dict[int, str] = {}
    seen = []
    for split in problem.splits():
        for english, *others in texts(problem, folder, split):
            number = digits(english)
            seen.append(number)
            assert owner.setdefault(number // 4, split) == split
            assert english == " ".join(tokens("en", number))
            assert [other.split() for other in others] == [
                [*tokens(language, number), "<end>"] for language in ("fr", "zh")
            ]
    assert sorted(seen) == list(range(240))
    assert [len(split) for split in problem.splits().values()] == [180, 24, 36]


def tokens(language: str, n: int) -> list[str]:
    """Of a written sentence."""
    text = help_sentence(language, n).lower()
    return [c for c in text if c != " "] if language == "zh" else text.replace(".", " .").split()


def test_the_decoder_reads_each_target_one_token_behind(make: Callable[..., Problem]) -> None:
    problem = make()
    for data in problem.splits().values():
        read = data.inputs.split([12, 16, 19], dim=1)[1:]
        for inputs, target in zip(read, data.targets, strict=True):
            assert (inputs[:, 0] == 2).all()
            kept = target[:, :-1] != -100
            assert torch.equal(inputs[:, 1:][kept], target[:, :-1][kept])
            assert (inputs[:, 1:][~kept] == 0).all()
            ends = (target == 3).sum(1)
            lengths = (target != -100).sum(1)
            assert (ends == 1).all() and (target.gather(1, lengths[:, None] - 1) == 3).all()


def test_vocabularies_are_those_of_training_rows(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Problem]
) -> None:
    folder = copied(small_data, tmp_path / "as written", monkeypatch)
    problem = make()
    held = digits(texts(problem, folder, "test")[0][0]) // 4
    folder = copied(small_data, tmp_path / "changed", monkeypatch)
    for language in ("en", "fr", "zh"):
        pages = help_pages(language, 60)
        name = list(pages)[held]
        pages[name] = pages[name].replace(WORDS[language][-1], " neu neu neu" + WORDS[language][-1])
        write_help(folder / f"libreoffice_help_{language}", pages)
    changed = make()
    table = [word for row in texts(changed, folder, "train") for word in row[0].split()]
    assert "neu" not in table and torch.equal(changed.train.inputs, problem.train.inputs)
    marked = [row for row in texts(changed, folder, "test") if "<unknown>" in row[0]]
    assert len(marked) == 4 and all(row[1].count("<unknown>") == 3 for row in marked)


def test_what_reads_the_same_with_unknown_words_is_in_one_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Problem]
) -> None:
    monkeypatch.setenv("MTOFRONT_DATA", str(tmp_path))
    for language in ("en", "fr", "zh"):
        texts = [f"{language} rare{n} end" for n in range(80)]
        pages = {f"{n:02}.html": help_page({"p": text}) for n, text in enumerate(texts)}
        write_help(tmp_path / f"libreoffice_help_{language}", pages)
    with pytest.raises(ProblemError, match="'val' has none"):
        make()


def test_longer_sentences_are_left_out_and_options_only_choose(
    make: Callable[..., Problem],
) -> None:
    whole, fewer = make(), make(train=50, val=10, test=20)
    assert torch.equal(fewer.train.inputs, whole.train.inputs[:50])
    assert torch.equal(fewer.test.targets[1], whole.test.targets[1][:20])
    short = make(longest=8)
    assert short.train.inputs.shape[1] == 8 + 11 + 13
    assert len(short.train) < len(whole.train)
    assert [task.name for task in make(languages=["de", "zh", "fr"]).tasks] == ["de", "zh", "fr"]


def test_options_that_cannot_be_met_are_refused(make: Callable[..., Problem]) -> None:
    for options, reason in (
        ({"languages": ["fr"]}, "two or three different ones"),
        ({"languages": ["fr", "fr"]}, "two or three different ones"),
        ({"languages": ["fr", "xx"]}, r"found \['fr', 'xx'\]"),
        ({"width": 10, "heads": 2}, "a multiple of 2 × heads; found layers 1, heads 2, width 10"),
        ({"vocabulary": 0}, "vocabulary within 1 … 30,000"),
        ({"longest": 1}, "each split needs a sentence that is short enough"),
        ({"train": 181}, r"split 'train' has 1 … 180 rows to give; train=181 asked"),
    ):
        with pytest.raises(ProblemError, match=reason):
            make(**options)


def test_a_damaged_archive_is_named(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Problem]
) -> None:
    folder = copied(small_data, tmp_path, monkeypatch)
    path = folder / "libreoffice_help_fr" / "pages.zip"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ProblemError, match=r"help_fr/pages\.zip cannot be read.*fetch it again"):
        make()


def network(lengths: tuple[int, ...] = (5, 4, 6), layers: int = 2) -> Translator:
    torch.manual_seed(3)
    return Translator((11, 9, 7), lengths, Sizes(layers, 8, 2, 0.0)).double().eval()


def rows_of(lengths: tuple[int, ...] = (5, 4, 6), count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randint(1, 7, (count, length), generator=generator) for length in lengths]


def test_the_network_is_torchs_own_transformer() -> None:
    net, (source, *targets) = network(), rows_of()
    source[1, 3:] = source[2, 1:] = 0
    encoder = nn.TransformerEncoderLayer(8, 2, 32, 0.0, batch_first=True, norm_first=True)
    decoder = nn.TransformerDecoderLayer(8, 2, 32, 0.0, batch_first=True, norm_first=True)
    theirs = nn.ModuleList(
        [
            nn.TransformerEncoder(encoder, 2, nn.LayerNorm(8), enable_nested_tensor=False),
            nn.TransformerDecoder(decoder, 2, nn.LayerNorm(8)),
        ]
    )
    theirs = theirs.double().eval()
    for stack, layers, norm in zip(
        theirs, (net.encoder, net.decoder), (net.encoded, net.decoded), strict=True
    ):
        stack.norm.load_state_dict(norm.state_dict())
        for own, their in zip(layers, stack.layers, strict=True):
            load(own, their)

    def read(language: int, codes: Tensor) -> Tensor:
        place = torch.arange(codes.shape[1], dtype=torch.float64)[:, None]
        angle = place / 10_000 ** (torch.arange(4, dtype=torch.float64) / 4)
        waves = torch.stack([angle.sin(), angle.cos()], 2).flatten(1)
        return net.tables[language][codes] * 8**0.5 + waves

    padding = source == 0
    memory = theirs[0](read(0, source), src_key_padding_mask=padding)
    for n, (target, logits) in enumerate(
        zip(targets, net(torch.cat([source, *targets], 1)), strict=True), 1
    ):
        ahead = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        states = theirs[1](read(n, target), memory, tgt_mask=ahead, memory_key_padding_mask=padding)
        expected = (states @ net.tables[n].T).transpose(1, 2)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


def load(own: nn.Module, their: nn.Module) -> None:
    """Give torch's layer the parameters of one of ours."""
    parts = [(own.own, their.self_attn)]
    parts += [(own.across, their.multihead_attn)] if own.across is not None else []
    with torch.no_grad():
        for attention, theirs in parts:
            for kind in ("weight", "bias"):
                joint = [getattr(layer, kind) for layer in (attention.query, attention.key_value)]
                getattr(theirs, f"in_proj_{kind}").copy_(torch.cat(joint))
            theirs.out_proj.load_state_dict(attention.mix.state_dict())
    their.linear1.load_state_dict(own.perceptron[0].state_dict())
    their.linear2.load_state_dict(own.perceptron[2].state_dict())
    for n, norm in enumerate(own.norms, 1):
        getattr(their, f"norm{n}").load_state_dict(norm.state_dict())


def test_padding_and_tokens_to_come_change_nothing_and_languages_do_not_meet() -> None:
    net, (source, first, second) = network(), rows_of()
    source[:, 3:] = 0
    logits = net(torch.cat([source, first, second], 1))
    longer = network((8, 4, 9))
    longer.load_state_dict({**net.state_dict(), "places": longer.places})
    more = [F.pad(source, (0, 3)), first, F.pad(second, (0, 3), value=5)]
    padded = longer(torch.cat(more, 1))
    torch.testing.assert_close(padded[0], logits[0])
    torch.testing.assert_close(padded[1][:, :, :6], logits[1])
    later = first.clone()
    later[:, 2] = first[:, 2] % 6 + 1
    changed = net(torch.cat([source, later, second], 1))
    assert torch.equal(changed[0][:, :, :2], logits[0][:, :, :2])
    assert not torch.equal(changed[0][:, :, 2:], logits[0][:, :, 2:])
    assert torch.equal(changed[1], logits[1])


def test_loss_and_error_are_means_over_real_tokens(make: Callable[..., Problem]) -> None:
    problem = make()
    torch.manual_seed(0)
    outputs = problem.model().eval()(problem.test.inputs)
    for task, logits, target in zip(problem.tasks, outputs, problem.test.targets, strict=True):
        places = [(r, t) for r in range(len(target)) for t in range(target.shape[1])]
        real = [(r, t) for r, t in places if target[r, t] >= 0]
        costs = [-logits[r, :, t].log_softmax(0)[target[r, t]].item() for r, t in real]
        wrong = [logits[r, :, t].argmax() != target[r, t] for r, t in real]
        assert len(real) < len(places)
        assert task.loss(logits, target).item() == pytest.approx(np.mean(costs), rel=1e-5)
        assert task.metrics["error"](logits, target).item() == pytest.approx(np.mean(wrong))


def test_evaluation_in_blocks_is_a_mean_over_all_tokens(
    make: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make()
    whole = final_losses(train_pack(problem, [spec(epochs=1)]))
    monkeypatch.setattr(evaluate, "ROWS", 7)
    blocks = final_losses(train_pack(problem, [spec(epochs=1)]))
    assert blocks == pytest.approx(whole, rel=1e-5)


def test_the_check_has_nothing_to_say(make: Callable[..., Problem]) -> None:
    found = examine(make())
    assert found.notes == () and found.reason == ""


def test_sentences_may_lack_a_translation(make: Callable[..., Problem]) -> None:
    whole, partly = make(), with_label_options(make(), labelled={"zh": 0.25})
    assert torch.equal(partly.train.targets[0], whole.train.targets[0])
    kept = (partly.train.targets[1] != -100).any(1)
    assert kept.sum() == 45
    assert torch.equal(partly.train.targets[1][kept], whole.train.targets[1][kept])
    for task, before in zip(partly.tasks, whole.tasks, strict=True):
        assert task.metrics.keys() == before.metrics.keys()
    outputs = partly.model()(partly.train.inputs)
    places = [torch.arange(180), kept.nonzero()[:, 0], (~kept).nonzero()[:, 0]]
    zh = [
        [m(outputs[1][rows], partly.train.targets[1][rows]).item() for rows in places]
        for m in (partly.tasks[1].loss, partly.tasks[1].metrics["error"])
    ]
    for whole_mean, kept_mean, none in zh:
        assert whole_mean == pytest.approx(kept_mean, rel=1e-5) and none == 0


@pytest.mark.parametrize("method", ["linear", "pcgrad", "imtl"])
def test_a_pack_is_its_runs(method: str, make: Callable[..., Problem]) -> None:
    problem = replace(make(**SMALL["translation"], dropout=0.1), name="p")
    specs = [spec(method, seed=n // 2, lr=0.003 * (1 + n)) for n in range(3)]
    pack = final_losses(train_pack(problem, specs))
    alone = np.concatenate([final_losses(train_pack(problem, [run])) for run in specs])
    assert np.array_equal(pack, alone)


def test_training_is_that_of_a_plain_loop(make: Callable[..., Problem]) -> None:
    problem = make(**SMALL["translation"])
    run = spec(epochs=4)
    trained = train_pack(problem, [run, replace(run, seed=1)])
    last = max(m.step for m in trained.measurements)
    first, found = (
        {m.task: m.values[0] for m in trained.measurements if place(m) == (step, "test", "loss")}
        for step in (0, last)
    )
    expected = plain_loop(problem, run, lambda p: torch.optim.Adam(p, lr=0.01))
    assert [found["fr"], found["zh"]] == pytest.approx(expected, rel=1e-4)
    assert found["fr"] < first["fr"] - 0.3 and found["zh"] < first["zh"] - 0.3


def place(measured: Measurement) -> tuple[int, str, str]:
    return measured.step, measured.split, measured.measure


def test_attention_and_entropy_of_a_pack_are_batched_by_hand(
    make: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"ATTENTION": 0, "ENTROPY": 0}
    for name in counts:
        layer = getattr(lowering, name)

        def counted(*given: Any, name: str = name, packed: Any = layer.packed) -> Tensor:
            counts[name] += 1
            return packed(*given)  # type: ignore[no-any-return]

        monkeypatch.setattr(lowering, name, replace(layer, packed=counted))
    problem = make(**SMALL["translation"], layers=2)
    train_pack(problem, [spec(epochs=1), spec(epochs=1, seed=1)])
    passes, rest = divmod(counts["ENTROPY"], 2)
    assert passes > 0 and rest == 0
    assert counts["ATTENTION"] == passes * (2 + 2 * 2 * 2)  # encoder, and twice the decoder
