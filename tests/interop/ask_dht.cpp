// libtorrent asks DHT nodes what its Python binding cannot: `ping` and `find_node`, as often as it is told.
//
//   ask_dht HOST:PORT COUNT NODE...      COUNT of each kind, in turn to each NODE (ADDRESS:PORT)
//
// Prints a line an answer: the kind, the node, the target or `-`, and the answer bencoded, all but the first two in hex.
// An answer that does not come in libtorrent's own time, 15 s, is printed as `-`. Built by test_dht.py.
#include <libtorrent/alert_types.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/hasher.hpp>
#include <libtorrent/session.hpp>
#include <libtorrent/session_params.hpp>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr int in_flight = 16;
char const* const kinds[] = {"ping", "find_node"};

lt::udp::endpoint endpoint_of(std::string const& text)
{
    auto const colon = text.rfind(':');
    auto const port = static_cast<std::uint16_t>(std::stoi(text.substr(colon + 1)));
    return {lt::make_address(text.substr(0, colon)), port};
}

std::string hex(std::string const& bytes)
{
    std::string text;
    for (unsigned char const byte : bytes) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text.empty() ? "-" : text;
}

struct question {
    std::string kind, node, target;
};

} // namespace

int main(int argc, char* argv[])
{
    std::vector<std::string> const nodes(argv + 3, argv + argc);
    int const count = std::atoi(argv[2]);
    lt::settings_pack settings;
    settings.set_str(lt::settings_pack::listen_interfaces, argv[1]);
    settings.set_str(lt::settings_pack::dht_bootstrap_nodes, "");
    settings.set_int(lt::settings_pack::alert_mask, lt::alert_category::dht);
    settings.set_int(lt::settings_pack::dht_upload_rate_limit, 1 << 30);
    settings.set_int(lt::settings_pack::dht_block_ratelimit, 1 << 20); // of answers too
    for (int off : {lt::settings_pack::enable_lsd, lt::settings_pack::enable_upnp, lt::settings_pack::enable_natpmp})
        settings.set_bool(off, false);
    lt::session session{lt::session_params(settings)};
    while (!session.is_dht_running()) session.wait_for_alert(lt::milliseconds(50));

    std::vector<question> asked;
    int answered = 0;
    while (answered < 2 * count) {
        while (static_cast<int>(asked.size()) < 2 * count && static_cast<int>(asked.size()) - answered < in_flight) {
            auto const number = asked.size();
            question now{kinds[number % 2], nodes[number / 2 % nodes.size()], ""};
            lt::entry query;
            query["q"] = now.kind;
            if (number % 2) now.target = lt::hasher(std::to_string(number)).final().to_string();
            if (number % 2) query["a"]["target"] = now.target;
            session.dht_direct_request(endpoint_of(now.node), query, lt::client_data_t(reinterpret_cast<void*>(number)));
            asked.push_back(now);
        }
        session.wait_for_alert(lt::seconds(1));
        std::vector<lt::alert*> alerts;
        session.pop_alerts(&alerts);
        for (lt::alert* each : alerts) {
            auto const* found = lt::alert_cast<lt::dht_direct_response_alert>(each);
            if (!found) continue;
            auto const& was = asked[reinterpret_cast<std::size_t>(static_cast<void*>(found->userdata))];
            std::string answer;
            if (auto const whole = found->response(); whole.type() == lt::bdecode_node::dict_t)
                answer.assign(whole.data_section().begin(), whole.data_section().end());
            std::cout << was.kind << ' ' << was.node << ' ' << hex(was.target) << ' ' << hex(answer) << '\n';
            ++answered;
        }
    }
    std::cout.flush();
    std::_Exit(0); // its destructor waits for its trackers and gateways, of which there are none
}
