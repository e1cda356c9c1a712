"""`python -m selfimprove` is the command `selfimprove`."""

from selfimprove.cli import main

if __name__ == "__main__":
    main()
