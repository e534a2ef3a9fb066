mod cpu;
mod gguf;
mod graph;
mod kernels;
mod quant;
mod text;
mod tidy;
