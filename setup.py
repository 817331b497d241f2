"""
Packaging.  The package list is explicit on purpose: C{find_packages} over
C{twisted/} would ship a C{twisted} package of ours and could overwrite
Twisted's own C{twisted/__init__.py}; C{package_dir} makes an editable install
put this folder on the path, so that Twisted sees C{twisted/plugins}.
"""

from pathlib import Path

from setuptools import setup

setup(
    name="twisted_term",
    version="0.1.0",
    description="Clean termination of connections, for Twisted",
    long_description=Path(__file__).with_name("README.rst").read_text("utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    python_requires=">=3.9",
    packages=["twisted_term", "twisted.plugins"],
    package_dir={"": "."},
    package_data={"twisted_term": ["py.typed"]},
    install_requires=["twisted>=24.7.0", "zope.interface>=5"],
    extras_require={
        "test": [
            "build",
            "daphne",
            "httpx[http2]",
            "klein",
            "kubernetes-validate",
            "pyhamcrest",
            "pyyaml",
            "setuptools",
            "twisted[http2,tls]",
            "wheel",
        ],
        "bench": ["aiohttp", "matplotlib", "uvloop"],
        "lint": ["mypy", "mypy-zope", "ruff"],
    },
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Typing :: Typed",
    ],
)
