"""The one exception for bad input, told apart from a defect of the program."""


class InputError(ValueError):
    """What the user passed cannot be used.

    The message is one line and names the value, the limit it breaks and the remedy; a command
    prints it without a traceback and ends with exit code 2.
    """
