"""The text encoder, with CLIP's key names: token numbers [n, 77] to text [n, 77, width]."""
import torch
import torch.nn as nn

from layers import attention, join_heads, split_heads


class SelfAttention(nn.Module):
    """A token looks at itself and those before it."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        query, key, value = [split_heads(part(x), self.heads) for part in (self.q_proj, self.k_proj, self.v_proj)]
        return self.out_proj(join_heads(attention(query, key, value, causal=True)))


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        y = self.fc1(x)
        return self.fc2(y * torch.sigmoid(1.702 * y))  # CLIP's quick GELU


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.layer_norm1 = nn.LayerNorm(width)
        self.mlp = FeedForward(width)
        self.layer_norm2 = nn.LayerNorm(width)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    def __init__(self, width=128, layers=4, heads=2, vocabulary=49408, positions=77):
        super().__init__()
        model = self.text_model = nn.Module()
        model.embeddings = nn.Module()
        model.embeddings.token_embedding = nn.Embedding(vocabulary, width)
        model.embeddings.position_embedding = nn.Embedding(positions, width)
        nn.init.normal_(model.embeddings.token_embedding.weight, std=0.02)
        nn.init.normal_(model.embeddings.position_embedding.weight, std=0.01)
        model.encoder = nn.Module()
        model.encoder.layers = nn.ModuleList([Layer(width, heads) for _ in range(layers)])
        model.final_layer_norm = nn.LayerNorm(width)

    def forward(self, tokens):
        model = self.text_model
        positions = model.embeddings.position_embedding.weight[: tokens.shape[1]]
        x = model.embeddings.token_embedding(tokens) + positions
        for layer in model.encoder.layers:
            x = layer(x)
        return model.final_layer_norm(x)
