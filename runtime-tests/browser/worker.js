import { tell } from "./tell.js";

tell("worker");
