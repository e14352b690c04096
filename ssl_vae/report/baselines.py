"""What a VAE has to beat on Fashion-MNIST, as measured once by benchmarks/baselines.py.

Test accuracy, mean and standard deviation over label splits 0 to 2, inductive; C and
gamma of every SVM by cross-validation on the labeled images.
"""

LABELS = (100, 600, 1000, 3000)
BASELINES: dict[str, list[tuple[float, float]]] = {
    "pixels, SVM": [
        (0.6895, 0.0137),
        (0.7953, 0.0029),
        (0.8094, 0.0050),
        (0.8429, 0.0024),
    ],
    "PCA-50, SVM": [
        (0.6914, 0.0148),
        (0.7884, 0.0067),
        (0.8031, 0.0028),
        (0.8323, 0.0034),
    ],
    "oriented gradients, SVM": [
        (0.7375, 0.0095),
        (0.8362, 0.0063),
        (0.8475, 0.0011),
        (0.8766, 0.0010),
    ],
    "pixels, neural network of the labeled alone": [
        (0.6889, 0.0247),
        (0.7993, 0.0068),
        (0.8102, 0.0076),
        (0.8387, 0.0020),
    ],
    "PCA-50, self-training": [
        (0.6657, 0.0397),
        (0.7519, 0.0052),
        (0.7704, 0.0040),
        (0.8055, 0.0032),
    ],
    "PCA-50, label spreading": [
        (0.6920, 0.0069),
        (0.7626, 0.0103),
        (0.7751, 0.0032),
        (0.7985, 0.0011),
    ],
}
