"""Names of files that are no UTF-8, as an old zip leaves them.

Linux allows any bytes in a name, and Python reads those that are no UTF-8 as half characters (lone
surrogates), which no hash, no Arrow table and no terminal takes.
"""

from __future__ import annotations


def is_utf8(name: str) -> bool:
    """Whether a name, or any other text, has no half characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    """A name as it can be shown: `caf\\xe9.jpg` where a byte is no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")
