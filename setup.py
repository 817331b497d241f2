"""
Packaging.  The package list is explicit on purpose: C{find_packages} over
C{twisted/} would ship a C{twisted} package of ours and could overwrite
Twisted's own C{twisted/__init__.py}; C{package_dir} makes an editable install
put this folder on the path, so that Twisted sees C{twisted/plugins}.
"""

from pathlib import Path
from runpy import run_path

from setuptools import setup

_version = run_path(str(Path(__file__).with_name("twisted_term") / "_version.py"))

setup(
    name="twisted_term",
    version=_version["__version__"],
    description="Clean termination of connections, for Twisted",
    long_description=Path(__file__).with_name("README.rst").read_text("utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    python_requires=">=3.9",
    packages=[
        "twisted_term",
        "twisted_term.applications",
        "twisted_term.connection",
        "twisted_term.connection.beneath",
        "twisted_term.drain",
        "twisted_term.probe",
        "twisted_term.status",
        "twisted_term.termserver",
        "twisted_term.testing",
        "twisted.plugins",
    ],
    package_dir={"": "."},
    package_data={
        "twisted_term": ["py.typed"],
        "twisted_term.connection": ["*.pyi"],
        "twisted_term.status": ["status.html"],
    },
    entry_points={"console_scripts": ["term-probe = twisted_term.probe.command:main"]},
    install_requires=["twisted>=24.7.0", "zope.interface>=5"],
    extras_require={
        "metrics": ["prometheus_client"],
        # HTTP/1.1 needs neither.
        "probe": ["h2", "wsproto"],
        "test": [
            "autobahn",
            "build",
            # pydoctor asks for any version, and later ones need Python 3.10.  The pip
            # that comes with Python 3.9 tries for many minutes where the index does
            # not tell it so.
            "cachecontrol<0.14.4; python_version < '3.10'",
            "coverage[toml]>=7.10",
            "daphne",
            "docutils",
            "furo",
            "httpx[http2]",
            "hypothesis",
            "klein",
            "kubernetes-validate",
            "prometheus_client",
            "pydoctor",
            "pyhamcrest",
            "pyyaml",
            "selenium",
            "setuptools>=64",
            "twisted[conch,http2,tls]",
            "uvloop",
            "websockets",
            "wheel",
            "wsproto",
        ],
        "bench": [
            "aiohttp",
            "httpx[http2]",
            "matplotlib",
            "twisted[http2,tls]",
            "uvloop",
            "wsproto",
        ],
        "docs": [
            "furo",
            "pydoctor",
            "repoze.sphinx.autointerface",
            "sphinx",
            "sphinx-copybutton",
        ],
        "suites": ["django", "httpbin", "multipart", "treq", "werkzeug"],
        "lint": [
            "check-jsonschema",
            "mypy",
            "mypy-zope",
            "pre-commit",
            "pyright[nodejs]",
            "ruff",
        ],
        "matrix": ["nox"],
        "mutation": ["cosmic-ray>=8", "twisted_term[test]"],
        "release": ["build", "check-wheel-contents", "towncrier", "twine"],
    },
    classifiers=[
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Typing :: Typed",
    ],
)
