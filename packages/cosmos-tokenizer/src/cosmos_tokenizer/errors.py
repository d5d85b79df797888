"""The error that means "your input": commands print its one line and exit with code 2."""


class InputError(ValueError):
    """Bad input from outside: one line that names the offending value and the way out."""
