"""Units for layers other than matrix-vector products, and the sliding windows in front of convolution and pooling."""
