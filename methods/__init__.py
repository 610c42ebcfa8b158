"""Multi-task optimisation methods: what one step makes of T losses and their gradients.

Every method is one file with one `METHOD`, a pure function from the signals of a step to weights
over the tasks. It can be used in three ways.

On a Jacobian, one row a task, for gradients from anywhere:

>>> import torch
>>> from mtofront.methods import METHODS, Balancer, aggregate, make
>>> jacobian = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
>>> aggregate("linear", jacobian, weights=[1.0, 1.0])
tensor([0., 1.])
>>> aggregate("pcgrad", jacobian)
tensor([0.5000, 1.5000])
>>> aggregate("mgda", jacobian)
tensor([0.2000, 0.4000])
>>> aggregate("cagrad", jacobian, c=0.4)
tensor([0.2000, 0.5000])

In a training loop, in place of `loss.backward()`:

>>> trunk = torch.nn.Linear(2, 1, bias=False)
>>> torch.nn.init.ones_(trunk.weight).sum().item()
2.0
>>> balancer = Balancer("pcgrad", tasks=2, shared=trunk.parameters(), seed=0)
>>> balancer.backward([trunk.weight[0, 0], -trunk.weight[0, 0] + trunk.weight[0, 1]])
>>> trunk.weight.grad
tensor([[0.5000, 1.5000]])
>>> balancer.weights
tensor([2.0000, 1.5000], dtype=torch.float64)

Step by step over a batch of runs, as the sweep does it: `METHODS[name]` holds `init`, `noise` and
`step` (see `Method`). What a method needs sets its price, in backward passes a step:

>>> METHODS["uncertainty"].needs, METHODS["pcgrad"].needs
('losses', 'gramian')
>>> make("cagrad", c=0.2).values["c"]
0.2
>>> make("pcgrda")
Traceback (most recent call last):
    ...
ValueError: unknown method 'pcgrda'; did you mean 'pcgrad'? known: ...
"""

from __future__ import annotations

from .aggregation import aggregate
from .application import (
    Evidence,
    Update,
    evidence_of,
    first_state,
    mean_of,
    noise_width,
    unsolved_steps,
    updated,
    weighed,
)
from .balancer import Balancer
from .counters import GOLDEN, mixed, signed
from .gramian import cosines, gramian_of, norms, products
from .hyper import (
    Configured,
    HyperError,
    check_hyper,
    check_together,
    make,
    method_named,
    values_for,
)
from .matched_norm import MATCHED_NORM, why_no_matched_norm
from .method import (
    UNSOLVED,
    After,
    Answer,
    Choice,
    Count,
    Hyper,
    Method,
    Need,
    Number,
    Paper,
    Signals,
    State,
    Step,
    TaskWeights,
    Values,
    number,
)
from .registry import METHODS
from .span import span_weights
from .treatment import TREATMENTS, Treatment, from_losses, one_pass, treated, treatment_of

__all__ = [
    "GOLDEN",
    "MATCHED_NORM",
    "METHODS",
    "TREATMENTS",
    "UNSOLVED",
    "After",
    "Answer",
    "Balancer",
    "Choice",
    "Configured",
    "Count",
    "Evidence",
    "Hyper",
    "HyperError",
    "Method",
    "Need",
    "Number",
    "Paper",
    "Signals",
    "State",
    "Step",
    "TaskWeights",
    "Treatment",
    "Update",
    "Values",
    "aggregate",
    "check_hyper",
    "check_together",
    "cosines",
    "evidence_of",
    "first_state",
    "from_losses",
    "gramian_of",
    "make",
    "mean_of",
    "method_named",
    "mixed",
    "noise_width",
    "norms",
    "number",
    "one_pass",
    "products",
    "signed",
    "span_weights",
    "treated",
    "treatment_of",
    "unsolved_steps",
    "updated",
    "values_for",
    "weighed",
    "why_no_matched_norm",
]
