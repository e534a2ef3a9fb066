mod cpu;
mod gguf;
mod graph;
mod kernels;
mod quant;
mod sampler;
mod tidy;
mod text;
