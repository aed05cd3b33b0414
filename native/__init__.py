"""The C++ back end: the golden model's integers, many times faster, also usable without Python.

:mod:`native.executor` runs language models from Python, :mod:`native.frames` frame networks.
``native/include`` and ``native/CMakeLists.txt`` are the library for C++; docs/native.md shows both.
"""
