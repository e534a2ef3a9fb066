mod gguf;
mod quant;
mod text;
mod text_broken;
mod text_stream;
mod text_template;
