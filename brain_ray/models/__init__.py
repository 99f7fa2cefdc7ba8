"""Networks: backbones, their weights, heads, and fused layers."""
