// How an operator is called: its inputs, attributes and operator set, with checks that name the node.
import { DataError } from "../../../../tensor/errors.js";
import { normalizeAxis, type Shape } from "../../../../tensor/shape.js";
import type { Tensor } from "../../../../tensor/tensor.js";
import { type ElementType, isFloat, type Numbers, type Place, Value } from "../value.js";

/** A constant among the attributes. */
export interface Constant {
  readonly type: ElementType;
  readonly shape: Shape;
  readonly data: Numbers;
}

export type Attribute = number | string | readonly number[] | readonly string[] | Constant;
export type Attributes = Readonly<Record<string, Attribute>>;

export interface CallParts {
  /** Begins messages: the file and the node. */
  readonly where: string;
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes: Attributes;
  readonly opset: number;
  /** How many outputs are asked for. */
  readonly outputs: number;
  readonly place: Place;
  /** Channels of images are their last axis, of inputs and of outputs: [N, ..., C] instead of ONNX's [N, C, ...]. */
  readonly channelsLast?: boolean;
}

/** One call of an operator. */
export class OperatorCall {
  readonly opset: number;
  readonly place: Place;
  readonly outputs: number;
  readonly channelsLast: boolean;
  readonly inputs: readonly (Value | undefined)[];

  constructor(private readonly parts: CallParts) {
    this.opset = parts.opset;
    this.place = parts.place;
    this.outputs = parts.outputs;
    this.inputs = parts.inputs;
    this.channelsLast = parts.channelsLast ?? false;
  }

  refuse(what: string): never {
    throw new DataError(`${this.parts.where}: ${what}`);
  }

  has(i: number): boolean {
    return this.inputs[i] !== undefined;
  }

  value(i: number): Value {
    return this.inputs[i] ?? this.refuse(`must have an input ${i}, has none`);
  }

  /** An input as a tensor. */
  tensor(i: number): Tensor {
    return this.value(i).on(this.place);
  }

  optional(i: number): Tensor | undefined {
    return this.inputs[i]?.on(this.place);
  }

  /** An input of floats. */
  float(i: number): Tensor {
    const { type } = this.value(i);
    if (!isFloat(type)) this.refuse(`input ${i} must be of floats, is of ${type}`);
    return this.tensor(i);
  }

  /** Numbers that must be known before anything is computed, such as shapes. */
  host(i: number): number[] {
    const { host } = this.value(i);
    if (host === undefined) {
      this.refuse(`input ${i} must be constant, or follow from shapes, but it is computed from the model's inputs`);
    }
    return Array.from(host as ArrayLike<number>);
  }

  /** `host` of an input that may be missing. */
  hostOr<Other>(i: number, other: Other): number[] | Other {
    return this.has(i) ? this.host(i) : other;
  }

  scalar(i: number, standard: number): number {
    return this.has(i) ? (this.host(i)[0] ?? this.refuse(`input ${i} must have an element`)) : standard;
  }

  /** Whether an attribute is there. */
  given(name: string): boolean {
    return this.parts.attributes[name] !== undefined;
  }

  attribute(name: string): Attribute | undefined {
    return this.parts.attributes[name];
  }

  number(name: string, standard?: number): number {
    const value = this.parts.attributes[name] ?? standard;
    return typeof value === "number" ? value : this.refuse(`its attribute ${name} must be a number`);
  }

  flag(name: string, standard = 0): boolean {
    return this.number(name, standard) !== 0;
  }

  numbers(name: string): number[] | undefined {
    const value = this.parts.attributes[name];
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((each) => typeof each === "number")) return [...value] as number[];
    return this.refuse(`its attribute ${name} must be a list of numbers`);
  }

  text(name: string, standard: string): string {
    const value = this.parts.attributes[name] ?? standard;
    return typeof value === "string" ? value : this.refuse(`its attribute ${name} must be a string`);
  }

  constant(name: string): Constant | undefined {
    const value = this.parts.attributes[name];
    if (value === undefined) return undefined;
    if (typeof value === "object" && "data" in value) return value;
    return this.refuse(`its attribute ${name} must be a tensor`);
  }

  /** One of some words. */
  choice<Word extends string>(name: string, words: readonly Word[], standard: Word): Word {
    const value = this.text(name, standard) as Word;
    return words.includes(value) ? value : this.refuse(`its ${name} must be one of ${words.join(", ")}, is "${value}"`);
  }

  axis(axis: number, rank: number): number {
    return normalizeAxis(this.parts.where, axis, rank);
  }

  /** What list of an attribute, or from some operator set on of an input. */
  list(name: string, input: number, since: number): number[] | undefined {
    return this.opset < since ? this.numbers(name) : this.hostOr(input, undefined);
  }

  /** A result. */
  make(type: ElementType, t: Tensor): Value {
    return Value.ofTensor(type, t, this.place);
  }

  /** A result of the type of an input. */
  like(i: number, t: Tensor): Value {
    return this.make(this.value(i).type, t);
  }
}

/** What computes an operator. */
export type Operator = (call: OperatorCall) => Value | readonly Value[];
export type Operators = Readonly<Record<string, Operator>>;
