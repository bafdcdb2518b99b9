"""``python -m flagkit``: the command line, for machines where its script is not on the path."""

from flagkit.cli import main

if __name__ == "__main__":
    main(prog_name="flagkit")
