"""What `pyproject.toml` cannot say: a wheel holds the manifests, which lie beside the package here."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithManifests(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "vtg_lib" / "data_manifests"
            shutil.copytree("data_manifests", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithManifests})
