// Where every page's worker begins: its name says whose it is.
import { serve } from "./channel.js";

const services = {
  train: () => import("./train/service.js"),
  draw: () => import("./draw/service.js"),
  dream: () => import("./dream/service.js"),
  depth: () => import("./depth/service.js"),
  faces: () => import("./faces/service.js"),
  inside: () => import("./inside/service.js"),
  kernels: () => import("./kernels/service.js"),
};
export type ServiceName = keyof typeof services;

serve(services[self.name as ServiceName]().then(({ service }) => service));
