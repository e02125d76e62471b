// "kilograd/sweeps" for TypeScript 5, whose own library lacks the types of WebGPU.
/// <reference types="@webgpu/types" preserve="true" />
export * from "./sweeps.js";
