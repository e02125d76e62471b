import { showNavigation } from "./shell.js";

showNavigation();
