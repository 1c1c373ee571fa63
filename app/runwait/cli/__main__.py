"""`python -m runwait.cli`, where there is no command `runwait` on the path."""

from runwait.cli import main

if __name__ == "__main__":
    main(prog_name="runwait")
