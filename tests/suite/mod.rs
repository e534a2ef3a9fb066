mod cpu;
mod gguf;
mod kernels;
mod quant;
