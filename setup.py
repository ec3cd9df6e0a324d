from setuptools import setup

# Everything else is in pyproject.toml; cffi's hook has no declarative form.
setup(cffi_modules=["xenlike/_core/build.py:ffi"])
