mod gguf;
mod graph;
mod quant;
mod tidy;
