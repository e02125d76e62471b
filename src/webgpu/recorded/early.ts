// The order of a step's commands that needs less memory. An optimizer changes all parameters when the last gradient is
// there. What it does to a large one it may do earlier, and the gradient's memory is free for what comes next.
import { buffersOf, type Command, type CopyCommand, type DispatchCommand } from "../commands.js";
import type { PooledBuffer } from "../pool.js";
import { independent } from "./groups.js";

/** Bytes of a buffer whose end is worth a change of the order. */
const LARGE = 2 ** 20;

/**
 * The commands, those as early as they may run that use up large buffers and write only what outlives the step. So do
 * those that fill what outlives it: nothing that needs them could move otherwise. Results stay the same.
 * @param isPassing tells buffers that nothing needs after the step
 */
export function endingEarly<C extends Command>(
  commands: readonly C[],
  isPassing: (buffer: PooledBuffer) => boolean,
): C[] {
  const order: C[] = [];
  for (const command of commands) {
    let at = order.length;
    if (endsLargeOnes(command, isPassing)) while (at > 0 && mayPass(command, order[at - 1]!)) at--;
    order.splice(at, 0, command);
  }
  return order;
}

function endsLargeOnes(command: Command, isPassing: (buffer: PooledBuffer) => boolean): command is DispatchCommand {
  return (
    command.kind === "dispatch" &&
    command.dispatch.bindings.every(
      ({ view: { buffer }, access }) => !isPassing(buffer) || (access !== "read_write" && buffer.bytes >= LARGE),
    )
  );
}

const mayPass = (command: DispatchCommand, other: Command) =>
  other.kind === "dispatch" ? independent([command], [other]) : !isMoved(command, other);

/** Whether a dispatch binds memory that a copy reads or writes. */
const isMoved = (command: DispatchCommand, { from, to }: CopyCommand) =>
  buffersOf(command).some((buffer) => buffer.isIn(from) || buffer.isIn(to));
