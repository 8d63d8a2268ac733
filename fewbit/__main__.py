"""``python -m fewbit``: the command line."""

from fewbit.cli.main import main

if __name__ == "__main__":
    main()
