// Starts `everwhen debug --dap` where the workspace's modules are found.
const vscode = require("vscode");

exports.activate = (context) => {
  const factory = {
    createDebugAdapterDescriptor({ configuration, workspaceFolder }) {
      const cwd = configuration.cwd ?? workspaceFolder?.uri.fsPath;
      const command = configuration.command ?? "everwhen";
      return new vscode.DebugAdapterExecutable(command, ["debug", "--dap"], { cwd });
    },
  };
  context.subscriptions.push(
    vscode.debug.registerDebugAdapterDescriptorFactory("everwhen", factory),
  );
};
