"""mtofront: does multi-task optimisation help, or does tuned scalarization do the same?

>>> from mtofront.analysis import load, compare
>>> from mtofront.methods import METHODS, Balancer, aggregate, make
>>> from mtofront.problems import PROBLEMS, Problem, Task
>>> from mtofront.sweep import load_config, plan, run
"""

__version__ = "0.1.0"
