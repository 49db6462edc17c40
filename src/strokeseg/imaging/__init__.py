"""Image operations that several stages use: components, the brain mask, downsampling, float16."""
