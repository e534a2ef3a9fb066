//! The engine as JavaScript sees it. The worker (`web/src/worker`) is the only caller: it does all I/O, asks where
//! bytes of the file go, and writes weights into GPU buffers itself, so that the memory of this module has no more than a
//! block of them, for its sum.
#![cfg(target_arch = "wasm32")]

mod choose;
mod digest;
mod embed;
mod engine;
mod errands;
mod generate;
mod header;
mod hub;
mod loading;
mod options;
mod sessions;
mod slices;
mod threads;
mod unreached;
mod value;

use std::cell::{Cell, RefCell};

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn now_ms() -> f64;
}

/// Must be called once. `report` gets the message of a panic, after which nothing in this module may be called: the
/// panic aborts, so promises that wait for Rust code stay open for ever. `stop` is an `Int32Array` in shared memory: once
/// its number is not 0, a step on the CPU ends soon, whatever it was about.
#[wasm_bindgen]
pub fn start(report: js_sys::Function, stop: Option<js_sys::Int32Array>) {
    REPORT.set(Some(report));
    STOP.set(stop);
    std::panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        if let Some(report) = REPORT.take() {
            // Nothing can be done where the report itself throws.
            let _ = report.call1(&JsValue::NULL, &info.to_string().into());
        }
    }));
}

thread_local! {
    static REPORT: Cell<Option<js_sys::Function>> = const { Cell::new(None) };
    static STOP: RefCell<Option<js_sys::Int32Array>> = const { RefCell::new(None) };
}

/// Whether the page gave the engine up. A page cannot say so in a message: those come between steps.
fn stopped() -> bool {
    STOP.with_borrow(|stop| stop.as_ref().is_some_and(|s| js_sys::Atomics::load(s, 0).is_ok_and(|n| n != 0)))
}

/// All GPU programs, as `[name, text]`: for a test that compiles them.
#[wasm_bindgen(js_name = shaderSources)]
pub fn shader_sources() -> Result<JsValue, JsValue> {
    value::to_js(&pagelm::backend::webgpu::shader_sources())
}
