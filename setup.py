"""The C++ back end as an extension module; everything else about the package is in pyproject.toml.

The sources are compiled in one step with nanobind's, so that the build needs a C++ compiler only.
"""

from pathlib import Path

import nanobind
from setuptools import Extension, setup

NANOBIND = Path(nanobind.include_dir()).parent
SOURCES = sorted(str(path) for path in Path("native/src").glob("*.cpp"))
HEADERS = sorted(str(path) for path in Path("native").glob("*/**/*.[hi][pn][pc]"))
# Exact without them as well: they let loops vectorise that could otherwise trap or set errno.
LOOPS = ["-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros"]

setup(
    ext_modules=[
        Extension(
            "native._core",
            [*SOURCES, str(NANOBIND / "src" / "nb_combined.cpp")],
            include_dirs=[
                "native/include",
                "native/src",
                nanobind.include_dir(),
                str(NANOBIND / "ext" / "robin_map" / "include"),
            ],
            depends=HEADERS,
            define_macros=[("NDEBUG", None), ("NB_COMPACT_ASSERTIONS", None)],
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-g0",
                "-fvisibility=hidden",
                "-fno-strict-aliasing",  # as nanobind's own build has it
                "-pthread",
                *LOOPS,
            ],
            extra_link_args=["-pthread"],
            language="c++",
        )
    ]
)
