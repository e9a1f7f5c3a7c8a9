"""The program that compiles a tree's Python files, run confined by a runtime's own interpreter.

Standard library of Python 3.9 only. The sources are hostile: compiling them may take for ever, use
all memory or crash the interpreter; then whatever is compiled by then stays, and the rest is
compiled by the function itself.
"""

from __future__ import annotations

import compileall
import encodings.ascii
import encodings.cp1252
import encodings.latin_1
import encodings.utf_8_sig
import sys

# Source files name their encoding; codecs cannot be imported once the process is confined.
_CODECS = (encodings.ascii, encodings.cp1252, encodings.latin_1, encodings.utf_8_sig)


def main(arguments: list[str]) -> int:
    """Compile everything below the working directory; ``arguments``: where sandboxes mount it."""
    sys.setrecursionlimit(2000)
    compileall.compile_dir(".", maxlevels=100, ddir=arguments[0], quiet=2)
    return 0
