"""Ray Tune as the engine: one trial trains one pack."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial

from .errors import EngineError, Interrupted, RequestError, StorageError
from .job import News, Tell, run_pack, write_failure
from .ray_cluster import can_train, is_carried, join
from .ray_logging import loggers
from .ray_scheduler import PackScheduler
from .ray_search import PackSearcher
from .work import Work

WATCH_SECONDS = 5.0
"""How often it is asked whether Ray is alive at all."""
ATTEMPTS = 3
"""How often a pack is tried whose worker dies; what it raises itself is final at once."""


def train(work: Work, tell: Tell) -> None:
    """Train the packs as Tune trials. Ray is started for the purpose, or joined, and left again.

    Raises StorageError, Interrupted, EngineError if Ray dies, RequestError if it cannot be had.
    """
    with _ray(work), _signals(), _watched() as lost:
        news = _Newsreel(work, tell)
        search = PackSearcher(work.packs, work.grow, news.open) if work.grow else None
        trackers = loggers(work.log, work.folder.root, work.say) if work.log else []
        tuner = tune.Tuner(
            tune.with_resources(_trainable(work), _per_pack(work)),
            # a searcher suggests one pack at a time; all at once is faster where all are known
            param_space={} if search else {"pack": tune.grid_search(list(work.packs))},
            tune_config=tune.TuneConfig(
                scheduler=PackScheduler(work.rungs) if work.rungs else None,
                search_alg=search,
                num_samples=-1 if search else 1,
                reuse_actors=True,
                trial_dirname_creator=_name,
                trial_name_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(work.folder.root.resolve()),
                verbose=0,
                callbacks=[news, *trackers],
                stop=_StopWithoutStorage(),
                failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:
            if not lost.is_set():
                raise Interrupted(str(work.folder.root)) from None
        except OSError as error:
            raise StorageError(error.errno, f"{work.folder.root}: {error}") from error
        finally:
            for tracker in trackers:
                tracker.close()
    if lost.is_set():
        raise EngineError(
            f"{work.folder.root}: every node of Ray died; go on with: mtofront resume "
            f"{work.folder.root}"
        )
    if news.storage:
        raise StorageError(None, news.storage)
    if news.open or (search and not search.over):
        raise Interrupted(str(work.folder.root))


def _name(trial: Trial) -> str:
    return f"pack-{trial.config['pack']:05d}"


def _per_pack(work: Work) -> dict[str, float]:
    gpus = work.resources.gpus_per_pack
    return {"cpu": 1, "gpu": gpus} if gpus else {"cpu": 1}


def _trainable(work: Work) -> Any:
    """A function for Tune. It closes over plain values only: workers get it by value."""
    root, device, every = (
        work.resources.storage or str(work.folder.root.resolve()),
        work.device,
        work.resources.checkpoint_seconds,
    )
    # what was sent to the nodes of a cluster is where their workers stand
    at_home = None if is_carried(work) else str(work.home)

    def pack(config: dict[str, Any]) -> None:
        number, home = config["pack"], at_home or os.getcwd()
        tell: Tell = lambda news: tune.report({"news": asdict(news)})  # noqa: E731
        while run_pack(root, number, home, device, every, tell):
            pass  # the report came back, so the rung is decided; a paused trial gets no further

    return pack


class _Newsreel(Callback):  # type: ignore[misc]
    """Passes on what packs report, and notes which ones never said that they ended."""

    def __init__(self, work: Work, tell: Tell) -> None:
        self.work, self.tell = work, tell
        self.open = set(work.packs)
        self.storage = ""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks for its own restore, which `resume` does without."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Each report of a running pack."""
        if "news" not in result:  # Tune's own closing row
            return
        news = News(**result["news"])
        self.storage = self.storage or news.storage
        if news.done or news.failed:
            self.open.discard(news.pack)
        self.tell(news)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A worker died; Tune calls this for every attempt, the last one is final."""
        if trial.num_failures < ATTEMPTS:
            return
        number = trial.config["pack"]
        runs = self.work.folder.read_manifest()["packs"][number]
        line = f"the worker process died {ATTEMPTS} times while it trained this pack"
        for place in self.work.folder.places:
            write_failure(place, number, runs, line, "")
        self.open.discard(number)
        news = News(number, len(runs), failed=line)
        self.tell(news)
        if self.work.rungs:
            self.work.rungs.hear(news)


class _StopWithoutStorage(Stopper):  # type: ignore[misc]
    """Ends the whole experiment when one pack cannot write its records: no other could."""

    def __init__(self) -> None:
        self.hit = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.hit = self.hit or bool(result.get("news", {}).get("storage"))
        return self.hit

    def stop_all(self) -> bool:
        """Whether every trial is to end."""
        return self.hit


@contextlib.contextmanager
def _ray(work: Work) -> Iterator[None]:
    """A Ray of our own on this machine, shut down at the end; or the user's cluster, left alone."""
    # Tune logs tracebacks of what is told in our own words: dead workers, full disks
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    address = work.address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            join(work, address, quiet)
        else:
            gpus = {"num_gpus": 0} if not work.resources.gpus_per_pack else {}
            ray.init(
                address="local", num_cpus=work.workers, include_dashboard=False, **gpus, **quiet
            )
            _check_gpus(work)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"the cluster at {address}" if address else "a local Ray"
        if isinstance(error, RequestError):
            ray.shutdown()
            raise
        line = str(error).strip().splitlines()[0]
        raise RequestError(f"cannot join or start {where}: {line}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_gpus(work: Work) -> None:
    """Tune would wait for ever for a GPU that is not there."""
    wanted, found = work.resources.gpus_per_pack, ray.cluster_resources()
    if not can_train(found, wanted):
        raise RequestError(
            f"resources.gpus_per_pack: a pack is to have {wanted:g} GPUs; this machine has "
            f"{found.get('GPU', 0):g}. Set it to 0 to train on the processor"
        )


@contextlib.contextmanager
def _watched() -> Iterator[threading.Event]:
    """Set, and Tune stopped, once no node of Ray is alive: Tune would wait for ever."""
    lost, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            if not any(node["Alive"] for node in ray.nodes()):
                lost.set()
                os.kill(os.getpid(), signal.SIGINT)  # the second one ends Tune's own clean-up

    thread = threading.Thread(target=watch, name="ray-watch", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, which Tune ends cleanly on; Ray's own handler would just exit.

    A second Ctrl-C ends Tune's clean-up; what was meant for it in another place comes back after.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGTERM: signal.signal(
            signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT)
        ),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
