"""The two kinds of mistake that a caller can mend: a setting, and an input that no retry will make usable."""


class InputError(ValueError):
    """Bad input to a call: one line that names the value and the way out."""


class Unusable(Exception):
    """One video or clip cannot be used, and trying again will not help; the message is the reason, one line.

    A stage raises it for a file that is no video, has no frame, or lies. Anything else that a stage raises is tried
    again before the item is put aside.
    """
