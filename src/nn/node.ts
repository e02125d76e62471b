// The public names of `nn` in kilograd/node: those of every runtime, and what writes files of its own.
export { type LoggedPicture, type TensorBoardOptions, tensorBoard } from "./callbacks/tensor-board.js";
export * from "./index.js";
