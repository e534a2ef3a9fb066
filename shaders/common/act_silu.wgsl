// x * sigmoid(x); the clamp keeps exp finite.
fn act(x: V) -> V { return x / (V(1.0) + exp(min(-x, V(80.0)))); }
