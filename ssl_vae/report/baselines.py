"""What a VAE has to beat on Fashion-MNIST, as measured once by benchmarks/baselines.py.

Test accuracy, mean and standard deviation over label splits 0 to 9, inductive; C and
gamma of every SVM by cross-validation on the labeled images.
"""

LABELS = (100, 600, 1000, 3000)
BASELINES: dict[str, list[tuple[float, float]]] = {
    "pixels, SVM": [
        (0.6870, 0.0165),
        (0.7922, 0.0079),
        (0.8079, 0.0059),
        (0.8426, 0.0038),
    ],
    "PCA-50, SVM": [
        (0.6891, 0.0185),
        (0.7883, 0.0039),
        (0.8032, 0.0060),
        (0.8359, 0.0048),
    ],
    "oriented gradients, SVM": [
        (0.7332, 0.0208),
        (0.8367, 0.0053),
        (0.8497, 0.0031),
        (0.8768, 0.0024),
    ],
    "pixels, neural network of the labeled alone": [
        (0.6951, 0.0207),
        (0.7983, 0.0049),
        (0.8097, 0.0061),
        (0.8373, 0.0071),
    ],
    "PCA-50, self-training": [
        (0.6757, 0.0224),
        (0.7562, 0.0053),
        (0.7735, 0.0044),
        (0.8053, 0.0022),
    ],
    "PCA-50, label spreading": [
        (0.6834, 0.0198),
        (0.7622, 0.0071),
        (0.7739, 0.0066),
        (0.8007, 0.0032),
    ],
}
