import torch
import torch.nn.functional as F

from pairsift.train.policy import FeatureBank


def unit(rows):
    return F.normalize(rows, dim=1)


def test_a_row_is_the_mean_of_both_views_and_then_half_of_what_it_was():
    bank = FeatureBank(5, 4)
    first, second, third, fourth = torch.randn(4, 2, 4, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([3, 1])
    bank.update(torch.cat([first * 7, second]), positions)
    once = unit(unit(first) + unit(second))
    torch.testing.assert_close(bank.rows[positions].float(), once, atol=1e-3, rtol=0)
    bank.update(torch.cat([third, fourth]), positions)
    twice = unit(once / 2 + unit(unit(third) + unit(fourth)) / 2)
    torch.testing.assert_close(bank.rows[positions].float(), twice, atol=2e-3, rtol=0)
    assert bank.rows[[0, 2, 4]].abs().sum() == 0


def test_unseen_images_stand_at_the_mean_of_the_others():
    bank = FeatureBank(4, 3)
    assert bank.features().abs().sum() == 0
    bank.update(torch.eye(3)[[0, 1, 0, 1]], torch.tensor([0, 2]))
    expected = torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0.5, 0.5, 0]])
    torch.testing.assert_close(bank.features(), expected)


def test_a_bank_is_in_half_precision_in_the_state():
    bank = FeatureBank(10, 8)
    assert bank.state_dict()["rows"].dtype == torch.float16
    bank.update(torch.randn(6, 8), torch.tensor([7, 8, 9]))
    again = FeatureBank(10, 8)
    again.load_state_dict(bank.state_dict())
    assert torch.equal(again.features(), bank.features())
