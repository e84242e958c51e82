"""Only what pyproject.toml cannot say: all packages are found, and recipes/ becomes ``pamela_rl.recipes``."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["pamela_rl*"]), "pamela_rl.recipes"],
    package_dir={"pamela_rl.recipes": "recipes"},
)
