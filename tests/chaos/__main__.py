"""`python -m tests.chaos`."""

from tests.chaos.chaos import main

main()
