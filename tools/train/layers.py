"""What the three networks share: group norm, attention, and calls that differ between versions of PyTorch."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def group_norm(channels, eps=1e-6):
    return nn.GroupNorm(min(32, channels // 4), channels, eps)


def attention(query, key, value, causal=False):
    """softmax(query key^T / sqrt(d)) value; all [batch, heads, tokens, d]."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # PyTorch before 2.0
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    return scores.softmax(-1) @ value


def split_heads(tokens, heads):
    """[batch, tokens, width] to [batch, heads, tokens, width / heads]."""
    batch, count, width = tokens.shape
    return tokens.view(batch, count, heads, width // heads).transpose(1, 2)


def join_heads(tokens):
    return tokens.transpose(1, 2).flatten(2)


@torch.no_grad()
def move_average(average, model, weight):
    """average += weight * (model - average), parameter by parameter."""
    ours, theirs = list(average.parameters()), list(model.parameters())
    if hasattr(torch, "_foreach_lerp_"):
        torch._foreach_lerp_(ours, theirs, weight)
        return
    for mine, new in zip(ours, theirs):
        mine.lerp_(new, weight)
