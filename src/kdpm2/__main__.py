"""`python -m kdpm2` is the command `kdpm2`."""

from kdpm2.cli import main

if __name__ == "__main__":
    main()
