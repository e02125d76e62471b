// What to do in a browser that gives no WebGPU adapter, by what it calls itself.

/** @param agent `navigator.userAgent` */
export function advice(agent: string): string {
  const linux = /Linux/.test(agent) && !/Android/.test(agent);
  if (/Firefox\//.test(agent)) {
    if (linux) {
      return "Firefox on Linux has WebGPU behind a setting: set dom.webgpu.enabled to true in about:config, and load the page again. A software adapter takes gfx.webgpu.ignore-blocklist, too.";
    }
    return "Firefox has WebGPU from version 141 on for Windows, and from 145 on for Macs with Apple's chips. Elsewhere, set dom.webgpu.enabled to true in about:config.";
  }
  // Edge, Opera and others name Chrome, too, and all of these name Safari.
  if (/Chrome\/|Chromium\//.test(agent)) {
    if (/Android/.test(agent))
      return "Chrome has WebGPU from version 121 on, for Android 12 and later. Update the browser.";
    if (linux) {
      return "On Linux, Chrome and Edge have WebGPU for newer graphics chips only (Intel's from version 144 on, NVIDIA's from 147 on). For others, start the browser with --enable-unsafe-webgpu --enable-features=Vulkan.";
    }
    return "Chrome and Edge have WebGPU from version 113 on. Update the browser, and turn on graphics acceleration in its settings, under System.";
  }
  if (/Safari\//.test(agent)) {
    return "Safari has WebGPU from version 26 on: with macOS 26, iOS 26 and later. Before, it is among the feature flags of Safari's developer settings.";
  }
  return "Use a current Chrome, Edge, Firefox or Safari.";
}
