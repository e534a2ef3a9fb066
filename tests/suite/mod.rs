mod gguf;
mod quant;
mod sampler;
