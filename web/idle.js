// idle.js - which settings have no effect beside the others of their scope.

/** What a setting of the picture that painting starts from hangs on: 'init_image', 'mask', or nothing. */
export function hangsOn(key) {
  if (/^(mask_|differential|paste_back)/.test(key)) return 'mask';
  return key === 'mask' || key === 'denoise' || key.startsWith('outpaint_') ? 'init_image' : null;
}

/** Whether a setting has no effect, and would be refused, without the network, picture or mask that it belongs to. */
export function idle(key, settings, ofRegion) {
  const on = key.startsWith('control_') ? 'control' : ofRegion ? null : hangsOn(key);
  return Boolean(on) && (!settings[on] || (on === 'mask' && !settings.init_image));
}
