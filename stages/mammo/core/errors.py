"""The exception for errors that the user can fix."""


class UserError(Exception):
    """An error that the user can fix. Its text says what is wrong, where, and what to do; no traceback is shown."""


def in_one_line(error: Exception) -> str:
    """Return the message of an exception, at most 200 characters, without line breaks."""
    return " ".join(str(error).split())[:200]


def is_lack_of_memory(error: BaseException) -> bool:
    """Return whether an exception of Python, OpenCV or TensorFlow means that memory ran out."""
    # By name and code: a stage imports only the libraries that it needs.
    kind = type(error).__name__
    return isinstance(error, MemoryError) or kind == "ResourceExhaustedError" or getattr(error, "code", None) == -4


def lack_of_memory(error: BaseException) -> str:
    """Return a line that says that memory ran out; empty if the exception means something else."""
    if not is_lack_of_memory(error):
        return ""
    what = in_one_line(Exception(str(error).split(" and type ")[0]))
    remedy = "end other programs, or lower train.batch, preprocess.size or the number of images at a time"
    return f"the machine's memory is used up{f' ({what})' if what else ''}: {remedy}"
