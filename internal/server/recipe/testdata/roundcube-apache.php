<?php
// Letterlock: Roundcube 1.6 behind Apache's mod_auth_openidc, with the provider's own token. At
// the end of config.inc.php:
//   include(__DIR__ . '/letterlock.inc.php');
// Without that line everything is as it was.

// Says that the sign-in has ended, so that what was being written is kept, and ends the request.
$letterlock_over = static function ($why) {
    header('Cache-Control: no-store');
    if (strtolower($_SERVER['HTTP_X_REQUESTED_WITH'] ?? '') === 'xmlhttprequest') {
        header('Content-Type: application/json');
        echo json_encode(['action' => (string) filter_input(INPUT_GET, '_action'), 'exec' =>
            "this.display_message('Your sign-in has ended.', 'error');\nthis.session_error('./');\n"]);
        exit;
    }
    http_response_code(401);
    header('Content-Type: text/html; charset=UTF-8');
    echo '<!DOCTYPE html><html lang="en"><title>Signed out</title><p>', $why, ' <a href="./" target="_top">Sign in again</a></p><script>',
        "if (parent !== window && parent.rcmail) { parent.rcmail.iframe_loaded(); parent.rcmail.display_message('Your sign-in has ended.', 'error'); parent.rcmail.session_error('./'); }",
        '</script></html>';
    exit;
};

// The browser's session with Apache, as its cookie names it.
$letterlock_cookie = preg_match('/(?:^|;\s*)(mod_auth_openidc_session=[^;\s]+)/', $_SERVER['HTTP_COOKIE'] ?? '', $letterlock_found) ? $letterlock_found[1] : '';

// Asks Apache on this machine about that session: [status, head of the answer].
$letterlock_ask = static function ($path) use ($letterlock_cookie) {
    $apache = @stream_socket_client('tcp://' . ($_SERVER['LETTERLOCK_RENEW'] ?? ''), $code, $text, 5);
    if (!$apache) {
        return [0, ''];
    }
    stream_set_timeout($apache, 15);
    fwrite($apache, "GET $path HTTP/1.0\r\nHost: " . ($_SERVER['HTTP_HOST'] ?? 'localhost') . "\r\nCookie: $letterlock_cookie\r\nAccept: */*\r\n\r\n");
    $head = explode("\r\n\r\n", (string) stream_get_contents($apache, 131072))[0];
    fclose($apache);
    return [(int) substr($head, 9, 3), $head];
};

// Renews a token that is about to end: one request after the other, so that the second finds
// what the first one got.
$letterlock_renew = static function ($temp) use ($letterlock_ask, $letterlock_over, $letterlock_cookie) {
    $expires = (int) ($_SERVER['OIDC_access_token_expires'] ?? 0);
    $before = (int) ($_SERVER['LETTERLOCK_RENEW_BEFORE'] ?? 0);
    if (!$expires || !$before || time() < $expires - $before) {
        return;
    }
    $whose = hash('sha256', $letterlock_cookie);
    $file = rtrim($temp, '/') . '/letterlock-' . substr($whose, 0, 2);
    $lock = @fopen($file, 'c+');
    // Where others write too it could be a link of theirs, or be held by them.
    $held = $lock ? fstat($lock) : [];
    $named = $lock ? @lstat($file) : false;
    if (!$lock || !$named || $named['ino'] !== $held['ino'] || $named['dev'] !== $held['dev'] || ($held['mode'] & 0170000) !== 0100000
        || ($held['mode'] & 077) && !@chmod($file, 0600)) {
        error_log("letterlock: $temp: no lock can be made there");
        $letterlock_over('This web mail cannot write into its folder for temporary files.');
    }
    flock($lock, LOCK_EX);
    $status = 0;
    // A provider in trouble is not asked by each request; the old token is good for a while. But
    // many share a file: what failed for one of them ends no other's sign-in.
    list($failed, $who) = explode(' ', (string) stream_get_contents($lock, 200) . ' ');
    if ((int) $failed < time() - 5 || $who !== $whose && time() >= $expires - 5) {
        list($status, $head) = $letterlock_ask('/__oidc/token');
        if ($status == 204 && preg_match('/\r\nLetterlock-Token: ([0-9]+) ([!-~]+)/i', $head, $fresh)) {
            $expires = (int) $fresh[1];
            $_SERVER['OIDC_access_token'] = $fresh[2];
        }
        if ($status == 0 || $status >= 500 || time() >= $expires - $before) {
            ftruncate($lock, 0);
            rewind($lock);
            fwrite($lock, time() . ' ' . $whose);
        }
    }
    fclose($lock);
    if ($status == 401) {
        $letterlock_over('Your sign-in has ended.');
    }
    // Apache counts from when the token arrived, and the mail servers want a moment too.
    if (time() < $expires - 5) {
        return;
    }
    // The token has ended and there is no other. What Apache knows of the sign-in goes, and who
    // opens a page is sent to the provider, which need not ask for anything.
    list($status) = $letterlock_ask('/__oidc?logout=get');
    if ($status == 200 && ($_SERVER['REQUEST_METHOD'] ?? '') === 'GET' && empty($_GET['_framed']) && empty($_SERVER['HTTP_X_REQUESTED_WITH'])) {
        header('Cache-Control: no-store');
        header('Location: ./?' . ($_SERVER['QUERY_STRING'] ?? ''), true, 303);
        exit;
    }
    $letterlock_over('Your sign-in has ended.');
};

// From Apache's environment only, never from a header.
unset($_SERVER['PHP_AUTH_USER'], $_SERVER['PHP_AUTH_PW']);
if (!empty($_SERVER['REMOTE_USER']) && !empty($_SERVER['OIDC_access_token'])) {
    $letterlock_renew($config['temp_dir'] ?? RCUBE_INSTALL_PATH . 'temp');
    $_SERVER['PHP_AUTH_USER'] = strtolower($_SERVER['REMOTE_USER']);
    $_SERVER['PHP_AUTH_PW'] = 'Bearer ' . $_SERVER['OIDC_access_token'];
    // Each person has a cookie of their own: one that another left behind opens nothing.
    $config['session_name'] = 'roundcube_' . substr(hash('sha256', $_SERVER['PHP_AUTH_USER']), 0, 16);
} elseif (PHP_SAPI !== 'cli') {
    $letterlock_over('Nobody is signed in.');
}

$config['plugins'] = array_values(array_unique(array_merge((array) ($config['plugins'] ?? []), ['http_authentication'])));
// Apache's session ends, and the provider's.
$config['logout_url'] = '/__oidc?logout=';
$config['imap_auth_type'] = 'XOAUTH2';
$config['smtp_auth_type'] = 'XOAUTH2';
$config['smtp_user'] = '%u';
$config['smtp_pass'] = '%p';
$config['username_domain'] = '';
$config['auto_create_user'] = true;
$config['smtp_debug'] = false;
$config['imap_debug'] = false;
