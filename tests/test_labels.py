import numpy as np
import pytest

from ssl_vae.errors import InputError
from ssl_vae.labels import choose_labeled

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60)).astype("i4")


@pytest.mark.parametrize("num_labels", [10, 100, 600])
def test_the_same_number_is_chosen_in_every_class_without_replacement(num_labels):
    chosen = choose_labeled(LABELS, num_labels, split_seed=0)
    assert len(np.unique(chosen)) == num_labels
    assert (np.bincount(LABELS[chosen]) == num_labels // 10).all()


def test_the_split_seed_alone_decides():
    chosen = choose_labeled(LABELS, 100, split_seed=3)
    np.testing.assert_array_equal(chosen, choose_labeled(LABELS, 100, split_seed=3))
    assert (chosen != choose_labeled(LABELS, 100, split_seed=4)).any()


def test_a_smaller_choice_is_part_of_a_larger_one():
    small, large = (choose_labeled(LABELS, n, split_seed=0) for n in (50, 200))
    assert set(small) < set(large)


@pytest.mark.parametrize(
    ("num_labels", "nearest"),
    [
        (0, "nearest: 10"),
        (-5, "nearest: 10"),
        (7, "nearest: 10"),
        (105, "nearest: 100 or 110"),
        (595, "nearest: 590 or 600"),
        (601, "nearest: 600"),
        (10**9, "nearest: 600"),
    ],
)
def test_other_numbers_are_refused_with_the_nearest_valid_ones(num_labels, nearest):
    with pytest.raises(InputError) as error:
        choose_labeled(LABELS, num_labels, split_seed=0)
    message = str(error.value)
    assert message.startswith(f"--labels={num_labels}: ")
    assert message.endswith(nearest)


def test_the_smallest_class_bounds_the_number_of_labels_unless_all_are_used():
    labels = np.array([0, -1, 0, 0, 1, -1, 1], np.int32)
    assert len(choose_labeled(labels, 4, split_seed=0)) == 4
    np.testing.assert_array_equal(
        choose_labeled(labels, 5, split_seed=0), [0, 2, 3, 4, 6]
    )
    with pytest.raises(InputError, match="or all 5; nearest: 4 or 5$"):
        choose_labeled(labels, 6, split_seed=0)


def test_an_unlabeled_image_is_never_chosen():
    labels = np.where(np.arange(600) % 3, -1, LABELS).astype(np.int32)
    chosen = choose_labeled(labels, 100, split_seed=1)
    assert (np.bincount(labels[chosen]) == 10).all()
