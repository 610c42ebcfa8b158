"""`python -m mtofront` is the `mtofront` command."""

from mtofront.cli import main

main()
