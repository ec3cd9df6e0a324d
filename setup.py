from setuptools import setup

# Everything else is in pyproject.toml; these two have no declarative form.
setup(
    cffi_modules=["xenlike/_core/build.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # one wheel for Python 3.11 and newer
)
